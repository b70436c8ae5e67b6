FROM base
COPY link-to-dir /l/
