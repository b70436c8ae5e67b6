FROM base AS a
RUN mkdir /q && ln -s nowhere /q/d && touch /q/f
FROM base
COPY --from=a /q/* /l/
