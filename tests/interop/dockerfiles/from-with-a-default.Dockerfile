ARG BASE
FROM ${BASE:-base} AS one
RUN true
FROM $BASE${X:-one}
RUN echo two >/two
