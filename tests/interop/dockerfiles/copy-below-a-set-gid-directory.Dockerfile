FROM rich
USER root
RUN mkdir -m 2775 /sg && chown 0:33 /sg
COPY a.txt /sg/new/
COPY dir /sg/dir
WORKDIR /sg/work/dir
USER app
WORKDIR /sg/app
COPY --chown=5 --chmod=700 a.txt /sg/five/x/
ADD tar/plain.tar /sg/tar/
