FROM base
COPY link-to-dir/x /l/
