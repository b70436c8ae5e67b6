FROM base
ENV ü=ö GRÜẞ="grüß gott"
LABEL "日本"="語 \"x\""
ARG Ä=ä
RUN echo 日本 "$GRÜẞ" >/日本
CMD ["日本", "é"]
