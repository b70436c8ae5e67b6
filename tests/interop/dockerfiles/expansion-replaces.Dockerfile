FROM base
ARG v=foobarfoo
ENV a=${v/foo/x} b=${v//foo/x} c=${v/o*/-} d=${v//o/} e=${v/nothing/x} f=${v//?o/<&>} g=${v/bar/\/}
