FROM rich AS r
USER root
RUN rm -r /d/e /opq && mkdir /opq && echo n >/opq/n && rm /links/b
FROM base
COPY --from=r /d /d
COPY --from=r /opq /opq
COPY --from=r /links /links
