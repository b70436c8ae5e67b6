FROM base
COPY link-* /l/
