FROM rich
USER root
RUN echo >/d/sub
COPY dir /d
