FROM base
COPY missing /x
