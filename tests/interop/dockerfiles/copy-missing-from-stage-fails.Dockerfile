FROM rich AS r
FROM base
COPY --from=r /nope /x
