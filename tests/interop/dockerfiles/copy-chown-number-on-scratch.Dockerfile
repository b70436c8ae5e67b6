FROM scratch
COPY --chown=7:8 a.txt /deep/a
COPY --chown=9 dir /dir
