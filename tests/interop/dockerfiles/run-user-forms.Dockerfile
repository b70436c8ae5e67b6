FROM base
USER app
RUN id >/tmp/1
USER app:web
RUN id >/tmp/2
USER 1000
RUN id >/tmp/3
USER 1000:50
RUN id >/tmp/4
USER 4242
RUN id >/tmp/5
USER 4242:4343
RUN id >/tmp/6
USER root
RUN id >/tmp/8; echo $HOME >/tmp/8home
ENV HOME=/elsewhere
USER app
RUN echo $HOME >/tmp/9home
