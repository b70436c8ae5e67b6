FROM base
ENV V=value
COPY <<EOF /one
plain $V ${U:-default} \$V "quoted"
	tab
EOF
COPY <<'EOF' <<-"TWO" /two/
literal $V
EOF
		stripped
	$V
	TWO
COPY --chown=app:web --chmod=600 <<EOF a.txt /three/
owned
EOF
ADD <<name.txt /four/
added
name.txt
COPY <<empty /five
empty
