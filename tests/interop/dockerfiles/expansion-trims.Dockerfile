FROM base
ARG v=foobarfoobar
ARG p=/usr/local/lib.tar.gz
ENV a=${v#f*b} b=${v##f*b} c=${v%b*r} d=${v%%b*r} e=${p##*/} f=${p%%.*} g=${p%.*} h=${v#x} i=${v#\*} j=${v#?} k=${p#*/*/}
