FROM base
COPY --from=rich /d/missing/* /x/
