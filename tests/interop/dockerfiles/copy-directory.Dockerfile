FROM base
COPY dir /one
COPY dir/ /two/
COPY dir /w/three
COPY void /void
COPY dir/sub /one/extra
COPY . /all/
