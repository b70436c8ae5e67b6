FROM base AS first
ONBUILD COPY --from=files /etc/group /copied
ONBUILD RUN --mount=from=rich,target=/rich cat /rich/d/one >/one
FROM rich AS files
FROM first
RUN true
