FROM rich AS r
USER root
RUN mkdir -p /k && cd /k && mknod c c 1 3 && mkfifo p && echo f >f && ln f h && ln -s f l && chmod 4711 f && chown -h 5:6 l p && \
    mkdir -m 1777 s && mkdir -m 2770 g && chown 12:34 g && find /k -exec touch -h -d @950000000 {} +
FROM base
COPY --from=r /k /k
COPY --from=r /d /links /merged/
COPY --from=r /d/g/four /four
COPY --from=r /to-d /via-link
COPY --from=r to-d/e /relative
COPY --from=r --chown=app /d /chowned
COPY --from=r /links/soft /soft
COPY --from=r /d/*/t* /globbed/
