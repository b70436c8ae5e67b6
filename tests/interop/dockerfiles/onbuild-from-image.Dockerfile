FROM trigger
RUN echo after $ONENV >>/on/ran; pwd >>/on/ran
