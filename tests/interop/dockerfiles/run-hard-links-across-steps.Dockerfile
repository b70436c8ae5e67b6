FROM rich
USER root
RUN echo more >>/links/a
RUN ln /links/b /links/third
RUN chmod 600 /links/third
RUN rm /links/a
