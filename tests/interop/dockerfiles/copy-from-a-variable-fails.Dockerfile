ARG X=base
FROM base
ARG X
COPY --from=$X /etc/passwd /x
