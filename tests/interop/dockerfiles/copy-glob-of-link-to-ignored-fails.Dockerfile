FROM base
COPY link-to-f* /l/
