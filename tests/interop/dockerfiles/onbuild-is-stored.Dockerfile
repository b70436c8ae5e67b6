FROM trigger
ONBUILD RUN echo "quoted"   blanks && \
  more
ONBUILD COPY --chown=1:2 ["a", "b"]
ONBUILD env A=$B
