FROM base AS b
ONBUILD RUN <<EOF
echo hi >/hi
EOF
ONBUILD COPY <<EOF /co
body
EOF
FROM b
RUN true
