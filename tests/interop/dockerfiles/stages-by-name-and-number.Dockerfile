FROM base AS skipped
RUN echo no >/no
FROM base AS One
RUN echo one >/one
FROM scratch AS two
COPY --from=one /one /two
COPY --from=1 /one /number
FROM two
COPY --from=ONE /one /capitals
COPY --from=2 /two /again
COPY --from=rich /d/e /from-image
