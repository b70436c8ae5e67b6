FROM base
RUN touch /gone && mkdir -p /gone-too/deep
RUN rm -r /gone /gone-too && touch /never && rm /never
RUN rm -rf /tmp && mkdir /tmp
