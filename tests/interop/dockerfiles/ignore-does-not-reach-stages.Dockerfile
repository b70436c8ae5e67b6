FROM rich AS r
FROM base
COPY --from=r /d /d
