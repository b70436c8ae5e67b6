FROM base
ARG empty=
ENV a=${empty-w} b=${unset-w} c=${empty+w} d=${unset+w} e=${empty:-${unset-x}}
