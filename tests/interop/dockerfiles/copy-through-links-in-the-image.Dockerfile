FROM rich
USER root
COPY a.txt /to-d/
COPY b.txt /to-d/new
COPY other /to-d
COPY a.txt /to-d
