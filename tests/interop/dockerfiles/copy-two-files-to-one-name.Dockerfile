FROM base
COPY a.txt b.txt /x
COPY *.txt /y
COPY dir a.txt /z
