FROM base
ENV V=value
RUN <<EOF
echo $V >/one
false
echo "still here" >>/one
EOF
RUN <<'SCRIPT'
#!/bin/awk -f
BEGIN { print "awk" >"/two" }
SCRIPT
RUN cat <<A >/three && cat <<-B >/four
a $V
A
	b
	B
RUN ash -e <<EOF
echo $((1+1)) >/five
EOF
