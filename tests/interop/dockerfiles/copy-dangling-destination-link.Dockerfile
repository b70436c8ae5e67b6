FROM rich
USER root
RUN ln -s /nowhere/dir /dang && ln -s /target-file /tolink
COPY a.txt /dang/
COPY a.txt /tolink
