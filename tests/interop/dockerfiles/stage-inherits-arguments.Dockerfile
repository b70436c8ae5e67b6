FROM base AS one
ARG G=default
RUN echo $G >/tmp/one
FROM one
RUN echo "<$G>" >/tmp/two
