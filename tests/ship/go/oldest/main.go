// Reads a CustomResourceDefinition as the API server of the Kubernetes version that go.mod pins does, with the limits on what its
// rules may cost, and custom resources under it, from standard input: a list of them as JSON. Prints what is wrong, a line each.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	scheme := runtime.NewScheme()
	install.Install(scheme)
	decoder := serializer.NewCodecFactory(scheme).UniversalDecoder(apiextensions.SchemeGroupVersion)
	kind := v1.SchemeGroupVersion.WithKind("CustomResourceDefinition")
	object, _, err := decoder.Decode(text, &kind, nil)
	must(err)
	crd := object.(*apiextensions.CustomResourceDefinition)
	tell(crdvalidation.ValidateCustomResourceDefinition(context.Background(), crd))

	text, err = io.ReadAll(os.Stdin)
	must(err)
	var resources []any
	must(json.Unmarshal(text, &resources))
	schema := crd.Spec.Versions[0].Schema
	if schema == nil { // where there is one version, it is the CRD's
		schema = crd.Spec.Validation
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	must(err)
	validator, _, err := validation.NewSchemaValidator(schema.OpenAPIV3Schema)
	must(err)
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	for _, resource := range resources {
		tell(validation.ValidateCustomResource(nil, resource, validator))
		errs, _ := rules.Validate(context.Background(), nil, structural, resource, nil, celconfig.RuntimeCELCostBudget)
		tell(errs)
	}
}

func tell(errs field.ErrorList) {
	for _, each := range errs {
		fmt.Println(each)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
