FROM base
COPY dang* /l/
