FROM rich
USER root
RUN rm -r /d/e && mkdir /d/e && rm -r /d/e && echo file >/d/e && rm /links/soft && mkdir /links/soft && rm /d/one && ln -s two /d/one && \
    mv /opq /opq2 && mv /opq2/sub /sub && mkdir /opq && rm -rf /links/b
