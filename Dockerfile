# A static binary and nothing else: no shell, no user but one without rights.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY keys/verify/go.mod keys/verify/go.sum keys/verify/
COPY authz/provider/oryx/go.mod authz/provider/oryx/go.sum authz/provider/oryx/
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /solegate ./cmd/solegate \
 && mkdir /data && chown 65532:65532 /data

FROM scratch
COPY --from=build /solegate /solegate
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV SOLEGATE_STORE=/data/solegate.db SOLEGATE_LISTEN=:8080
EXPOSE 8080
# It reads the configuration that serve reads, so that it asks the right port, by
# TLS or not: name a file by SOLEGATE_CONFIG, not by a flag, which it can't see.
HEALTHCHECK --interval=10s --timeout=4s CMD ["/solegate", "healthcheck"]
ENTRYPOINT ["/solegate"]
CMD ["serve"]
