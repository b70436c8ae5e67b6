FROM rich
ENV B=new
ENV C=c A=a
ENV PATH=/x:$PATH
