FROM base AS one
RUN echo 1 >/1
FROM one AS two
RUN exit 9
