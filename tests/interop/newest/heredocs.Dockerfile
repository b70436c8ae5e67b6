FROM base
ENV V=val W='a b'
COPY <<E <<-F <<'G' /h/
v $V ${V:-x} "$W" '$V' \$V \\ \n ${N} `x` $(y)
E
	tab $V
		two
	F
raw $V \$
G
COPY a.txt <<E b.txt /m/
mixed
E
ADD --chown=app <<E /n/
q
E
RUN <<E
echo one $V
false
echo two > /two
E
RUN <<E sh
echo $V > /three
E
RUN cat <<A - <<B >/four
a
A
b
B
RUN 4<<A cat <&4 >/five
fd
A
RUN <<-E
	echo x >/six
	E
RUN cat <<-'E' >/seven
	keep $V
	E
RUN <<E
#!/bin/awk -f
BEGIN { print "awk" > "/eight" }
E
SHELL ["/bin/sh", "-e", "-c"]
RUN <<E
echo x > /nine
E
RUN <<E cat > /ten
x \
y
E
