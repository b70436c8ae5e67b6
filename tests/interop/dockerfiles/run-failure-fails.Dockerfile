FROM base
RUN exit 7
