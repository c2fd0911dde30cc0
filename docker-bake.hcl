# The images for both architectures, with an SBOM and the provenance of the build attached to each:
#   export REGISTRY=registry.example/llm-orchestra VERSION=0.1.0 REVISION=$(git rev-parse HEAD)
#   docker buildx bake --file docker-bake.hcl --push
# Nothing in them is built for one architecture: the locked wheels and the base image exist for each.
variable "REGISTRY" { default = "llm-orchestra" }
variable "VERSION" { default = "unreleased" }
variable "REVISION" { default = "unknown" }

group "default" { targets = ["gateway", "workers", "llm_service"] }

target "image" {
  name      = service
  matrix    = { service = ["gateway", "workers", "llm_service"] }
  target    = service
  tags      = ["${REGISTRY}/${replace(service, "_", "-")}:${VERSION}"]
  args      = { VERSION = VERSION, REVISION = REVISION }
  platforms = ["linux/amd64", "linux/arm64"]
  attest    = ["type=provenance,mode=max", "type=sbom"]
}
