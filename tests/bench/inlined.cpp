// A program with many inlined calls, some of them deep: what optimized C++ is made of.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#ifdef SMALL
#define DEPTH 4
#else
#define DEPTH 24
#include <regex>
#endif
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
#include <variant>
#include <random>

namespace part0 {
template <int D> struct Tree { std::map<std::string, std::vector<int>> m; std::unique_ptr<Tree<D-1>> next;
  inline int sum(int k) const { int s=k; for (auto &p: m) s += std::accumulate(p.second.begin(), p.second.end(), D); if (next) s += next->sum(s^D); return s; }
  inline void add(const std::string& k,int v){ m[k].push_back(v); std::sort(m[k].begin(), m[k].end(), [](int a,int b){return (a^D)<(b^D);}); if(!next) next=std::make_unique<Tree<D-1>>(); next->add(k+char('a'+D%26),v+D);} };
template <> struct Tree<0> { int sum(int k) const {return k;} void add(const std::string&,int){} };
using V = std::variant<int,double,std::string,std::vector<int>>;
struct Vis { int operator()(int a)const{return a;} int operator()(double a)const{return int(a*2);} int operator()(const std::string&s)const{return s.size();} int operator()(const std::vector<int>&v)const{ return std::accumulate(v.begin(),v.end(),0);} };
int run(int seed) {
  Tree<DEPTH> t; std::mt19937 g(seed); std::unordered_map<std::string,int> u; std::set<std::pair<int,std::string>> s;
  for (int i=0;i<50;i++){ std::ostringstream o; o<<"k"<<g()%100<<std::hex<<i; t.add(o.str(), i); u[o.str()]+=i; s.emplace(i,o.str()); }
  int n=0;
#ifndef SMALL
  std::regex re("k([0-9]+)(a|b)*"); for(auto&[k,v]:u) { std::smatch m; if(std::regex_match(k,m,re)) n+=v; }
#endif
  std::vector<V> vs{1,2.0,std::string("x"),std::vector<int>{1,2,3}}; for(auto&v:vs) n+=std::visit(Vis{},v);
  std::vector<std::string> w; for(auto&p:s) w.push_back(p.second); std::stable_sort(w.begin(),w.end(),[](auto&a,auto&b){return a.size()<b.size()||a<b;}); 
  std::function<int(int)> f=[&](int x){return x<=1?1:f(x-1)+x;};
  return n+t.sum(seed)+f(10)+w.size();
}
}
int main(int c,char**){ std::cout<<part0::run(c)<<"\n"; }
