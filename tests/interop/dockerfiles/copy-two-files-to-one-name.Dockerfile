FROM base
COPY a.txt b.txt /x
