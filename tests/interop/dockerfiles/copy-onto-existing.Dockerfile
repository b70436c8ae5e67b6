FROM rich
USER root
COPY dir /d
COPY other /d/
COPY a.txt /d/e
COPY a.txt /d/one
COPY a.txt /links/a
COPY conflict/b /links/soft
COPY other /d
