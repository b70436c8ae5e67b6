FROM rich
USER root
RUN mkdir /t && ln -s /d/e /t/sub
COPY dir /t
