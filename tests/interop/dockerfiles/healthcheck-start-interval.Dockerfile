FROM base
HEALTHCHECK --start-interval=2s CMD x
