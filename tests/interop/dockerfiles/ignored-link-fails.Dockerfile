FROM base
COPY link-to-file /x
