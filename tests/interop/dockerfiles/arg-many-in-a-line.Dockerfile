FROM base
ARG A=1 B=$A C
RUN echo "$A$B$C" >/x
