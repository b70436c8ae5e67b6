FROM rich
USER root
RUN rm /d/one && rm -r /d/e/f
RUN rm -r /opq && mkdir /opq && echo new >/opq/new
RUN rm -r /d/g && echo file >/d/g
RUN rm /links/a && mkdir /links/a && echo x >/links/a/x
RUN rm /to-d && mkdir /to-d && touch /to-d/f
RUN rm -r /d/e && ln -s /opq /d/e
RUN rm -r /d
