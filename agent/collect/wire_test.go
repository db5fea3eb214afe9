package collect

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// TestWire holds the types that natsentry decodes against nats-server's own:
// a value of the server's type, written as the server writes it, must arrive
// in every field that natsentry reads.
func TestWire(t *testing.T) {
	for _, c := range []struct {
		theirs, ours any
	}{
		{&server.ServerInfo{}, &serverInfo{}},
		{&server.ApiError{}, &apiError{}},
		{&server.ServerStats{}, &statsz{}},
		{&server.Varz{}, &varz{}},
		{&server.Routez{}, &routez{}},
		{&server.Gatewayz{}, &gatewayz{}},
		{&server.Leafz{}, &leafz{}},
		{&server.AccountStatz{}, &accountStatz{}},
		{&server.Accountz{}, &accountz{}},
		{&server.Connz{}, &connz{}},
		{&server.DisconnectEventMsg{}, &event{}},
	} {
		t.Run(fmt.Sprintf("%T", c.theirs), func(t *testing.T) {
			fill(reflect.ValueOf(c.theirs).Elem(), new(int), 0)
			data, err := json.Marshal(c.theirs)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, c.ours); err != nil {
				t.Fatal(err)
			}
			same(t, "", reflect.ValueOf(c.ours).Elem(), reflect.ValueOf(c.theirs).Elem())
		})
	}
}

// fill gives every exported field a value of its own that is not zero.
func fill(v reflect.Value, n *int, depth int) {
	*n++
	if depth > 8 || !v.CanSet() {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 1, 1, 0, 0, *n, 0, time.UTC)
		return
	case *time.Duration:
		*x = time.Duration(*n)
		return
	case **server.AccountInfo:
		// Its decoded claims do not take made-up values, and are not read.
		*x = &server.AccountInfo{AccountName: fmt.Sprintf("A%d", *n), Expired: true, Jwt: fmt.Sprintf("eyJ%d", *n)}
		return
	case **jwt.OperatorClaims:
		*x = jwt.NewOperatorClaims(fmt.Sprintf("O%d", *n))
		(*x).Name = fmt.Sprintf("operator %d", *n)
		(*x).SigningKeys = jwt.StringList{fmt.Sprintf("OK%d", *n)}
		return
	}
	switch v.Kind() { //nolint:exhaustive // the kinds that answers are made of
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n % 100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 100))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n, depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n, depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		val := reflect.New(v.Type().Elem()).Elem()
		fill(val, n, depth+1)
		key := reflect.New(v.Type().Key()).Elem()
		fill(key, n, depth+1)
		v.SetMapIndex(key, val)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n, depth+1)
		}
	}
}

// same compares what arrived with what was sent, field by JSON name.
func same(t *testing.T, path string, ours, theirs reflect.Value) {
	t.Helper()
	for theirs.Kind() == reflect.Pointer {
		theirs = theirs.Elem()
	}
	for ours.Kind() == reflect.Pointer {
		if ours.IsNil() {
			t.Errorf("%s did not arrive", path)
			return
		}
		ours = ours.Elem()
	}
	if p, ok := ours.Interface().(presence); ok {
		if !bool(p) {
			t.Errorf("%s was there and was not seen", path)
		}
		return
	}
	switch x := ours.Interface().(type) {
	case peerCerts:
		if want := theirs.Index(0).Elem().FieldByName("Subject").String(); !x.shown || x.subject != want {
			t.Errorf("%s: got %+v, sent one of %q", path, x, want)
		}
		return
	case userJWT:
		if theirs.Kind() != reflect.String {
			t.Errorf("%s is no text any more", path)
		}
		return // what it holds has a test of its own
	}
	if _, ok := ours.Interface().(time.Time); ok {
		if !reflect.DeepEqual(ours.Interface(), theirs.Interface()) {
			t.Errorf("%s: got %v, sent %v", path, ours, theirs)
		}
		return
	}
	switch ours.Kind() {
	case reflect.Struct:
		for i := range ours.NumField() {
			name := jsonName(ours.Type().Field(i))
			field, ok := fieldByJSON(theirs, name)
			if !ok {
				t.Errorf("%s.%s: nats-server's %s has no such field", path, name, theirs.Type())
				continue
			}
			same(t, path+"."+name, ours.Field(i), field)
		}
	case reflect.Slice:
		if ours.Len() != theirs.Len() {
			t.Errorf("%s: got %d, sent %d", path, ours.Len(), theirs.Len())
			return
		}
		for i := range ours.Len() {
			same(t, fmt.Sprintf("%s[%d]", path, i), ours.Index(i), theirs.Index(i))
		}
	case reflect.Map:
		for _, k := range theirs.MapKeys() {
			same(t, path+"."+k.String(), ours.MapIndex(k), theirs.MapIndex(k))
		}
	default:
		if !theirs.Type().ConvertibleTo(ours.Type()) || theirs.Convert(ours.Type()).Interface() != ours.Interface() {
			t.Errorf("%s: got %v, sent %v", path, ours, theirs)
		}
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fieldByJSON(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && jsonName(f) == "" && f.Type.Kind() == reflect.Struct {
			if inner, ok := fieldByJSON(v.Field(i), name); ok {
				return inner, true
			}
		}
		if f.IsExported() && jsonName(f) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}
