FROM base
ARG set=v
ARG empty=
ENV a=${set:-w} b=${unset:-w} c=${empty:-w} d=${set:+w} e=${unset:+w} f=${unset:-${set:-x}} g=${unset:-"q w"} h=\${set} i='${set}' \
    j="${set}"x k=$set.y l=$set-$unset- m=${unset:+${set}}z n=$ o=a$ p=$. q=${set}${set}
