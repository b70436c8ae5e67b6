FROM base
RUN echo 'a \
   b' \
# a comment inside
  # an indented one

  c >/x && \  
    echo tail\\ >>/x
RUN echo \
d >/y
ENV X=1 \
    Y='2 \
    3'
