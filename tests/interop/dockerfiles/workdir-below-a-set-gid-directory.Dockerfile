FROM base
RUN mkdir -m 2775 /sg && chown 0:33 /sg
WORKDIR /sg/work/dir
